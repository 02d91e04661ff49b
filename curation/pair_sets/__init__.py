"""Making verification sets: from a list of pairs, or drawn from a store or view."""
