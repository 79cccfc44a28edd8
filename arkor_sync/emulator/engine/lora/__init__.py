"""Trains a real language model with LoRA, in a child process. Runs in the job's thread.

`engine` and `process` are the parent's side, and import nothing but the standard library. The rest
is the child's: `child` takes the parent's messages, `base_model` finds and loads the model,
`records` reads and tokenises the data, `training` trains, `checkpoints` saves, `chat` answers.
"""
