"""How the clock is: how late and why, minute by minute."""
