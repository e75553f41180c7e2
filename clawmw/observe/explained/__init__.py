"""One model call, told in plain words: what was asked, what was sent, who decided, what it cost."""
