//! The staffetta command: the whole cluster in one process, and the tools around it.
