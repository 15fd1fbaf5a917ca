"""What passes between the evaluator's processes: messages, shared memory, and how nested values are written down."""
