"""What the runs show: tables, effects, claims, figures, report."""
