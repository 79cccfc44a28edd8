"""The engine: from the bytes of a job's event stream to calls of the callbacks.

An event goes one way:

    cloud.sse      batches     channel     cursor      worker       contexts    your function
    read      ──▶  decode ──▶  put    ──▶  accept ──▶  take    ──▶  build  ──▶  call
                                                         │                       │
    reader thread                          in between    worker thread           ├─ returns: acknowledge
                                                                                 └─ raises: failures,
                                                                                    error_policy

What is passed on is a `Batch`, of one event or of thousands. Only two things ever go back: a full
channel stops the reader, and a rewind has the reader open the stream again after the last
acknowledged event.
"""
