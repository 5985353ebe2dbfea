"""What a prediction costs in the runtime that is served, and in others (stage cost)."""
