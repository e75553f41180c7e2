"""Translation between dialects at the edge: bytes of the caller's dialect to the wire's, and back.

The engine, stages and traces always see the caller's dialect; what the model's server speaks is
between transport and wire. Chat completions are the hub: messages and Responses meet there.
"""

from clawmw.codecs.translate.translator import Translator, refusal, translator

__all__ = ["Translator", "refusal", "translator"]
