"""The sans-I/O core: decides what to do with each model call and asks others to do it."""
