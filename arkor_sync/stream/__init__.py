"""The engine: from the bytes of a job's event stream to calls of the callbacks.

An event goes one way, over two threads:

    the reader thread                            the worker thread
    reader  ─▶  sse  ─▶  batches  ─▶  channel  ═▶  worker  ─▶  contexts  ─▶  your function
    bytes     frames     events      a queue       take        build         │
                        in a Batch    cursor:                                ├─ returns: acknowledge
                                     new ones                                └─ raises: ErrorPolicy

What is passed on is a `Batch`, of one event or of thousands. Only two things ever go back: a full
channel stops the reader, and a rewind has the reader open the stream again after the last
acknowledged event.
"""
