"""Pages for people: they show rows of all apps, and so stand above them."""
