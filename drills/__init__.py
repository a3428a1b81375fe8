"""The fault suite: real processes, real faults, and an account of what they cost. `python -m drills`, or `make drills`.

A drill starts the service as a user does, breaks something while studies run, and lets everything come to its end. Meanwhile a
record is kept of every trial that was ever seen finished. What must hold afterwards is the same for all drills: no finished trial
lost, none counted twice, none left RUNNING, no job stuck, no process left over, no due time of a schedule fired twice, and an
interrupted trial has the numbers of an undisturbed one, bit for bit.
"""
