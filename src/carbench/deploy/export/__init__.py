"""Makes of a trained checkpoint what others' tools load (stage export)."""
