"""A batch of requests, in one transaction: who sends, which runs, what is decided, and the rows."""
