"""Ways to reach people, a module for each kind."""
