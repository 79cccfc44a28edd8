"""The engine that trains LoRA adapters of a language model. Runs in the job's thread."""
