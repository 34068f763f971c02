"""Ways to tell people, one module for each: one message in, sent or an error out."""
