"""Events of model calls become spans: their names, places and times."""
