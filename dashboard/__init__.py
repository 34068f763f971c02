"""What people look at: pages that show rows of all apps, and so stand above them."""
