"""What the calls of one process share besides the stores: who waits, who goes, which upstream is
well. Kept in memory alone: slots, breakers and queues of a process that died are nobody's.
"""
