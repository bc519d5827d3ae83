"""Reports: metrics, tables and figures of a run."""
