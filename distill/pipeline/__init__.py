"""A job as a sequence of steps, none of which is done twice.

1. ``record`` writes the run directory: events, progress and results.
2. ``steps`` identifies each step by its inputs, so that jobs share finished steps.
3. ``work`` performs the steps after a training: evaluate, export.
4. ``planning`` lists the steps of a spec in order: teach, embed, generations, evaluate, export.
5. ``generations`` chooses among the candidates of a generation and decides when to stop.
6. ``job`` runs the steps.
"""
