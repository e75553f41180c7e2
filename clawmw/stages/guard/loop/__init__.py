"""`loop_guard`: an agent, or a ring of agents, that goes round and round is noticed and stopped.

`stage.py` is the stage and its section, `notes.py` the evidence it keeps. Each detector is a
file: `streaks.py` (the same calls with the same results, alone or in cycles), `progress.py`
(other calls, no further; tools that do not exist), `talk.py` (no answer for long, echoes, machine
speed), `rings.py` (agents that hand on to one another), `chant.py` (one answer that repeats
itself). What "the same" means is in `normal.py`.
"""
