"""Making datasets: from what lies in a store, or in a folder here, to an immutable index."""
