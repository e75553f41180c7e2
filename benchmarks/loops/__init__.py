"""Whether the loop guard fires where it should, and only there: runs that were read and labelled.

`labels.yaml` says which of 60 recorded runs are stuck, from which model call, and how; it says
how they were chosen and judged. `runs` gives each label with its run's calls. The runs
themselves are public data and not part of the project.
"""
