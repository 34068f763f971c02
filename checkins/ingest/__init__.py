"""A request on its way in: edge -> relay = socket pair = serving -> batcher -> spool, until it is durable."""
