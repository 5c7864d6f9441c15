"""Models on this machine: loading, rendering, writing, scoring, saving."""
