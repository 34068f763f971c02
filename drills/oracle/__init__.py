"""What should be true: the one account that drills, simulation and stateful tests compare the rows with (pure).

Kept with lists, loops and plain arithmetic. It shares no code with what it judges and imports none of it: when a job is
expected is asked of `Slots`, which whoever uses the account brings along.

- A slot is served by a run that begins up to the end of its margin, or a moment before the slot. What nothing serves is
  missed at the tick that ends the margin; unknown if nobody listened, or the monitor was disabled meanwhile.
- A run that has not ended at its deadline is a timeout at the first tick from then on, or unknown likewise.
- In maintenance slots are unknown, a deadline moves to the end, and errors do not count.
- So many failures in a row open an incident, and so many oks resolve it.

`place` follows an environment message by message and tick by tick, with exact times. `due` is for drills that know only
roughly when something was received. Both go by `rules`, and `verdicts` counts for both.
"""
