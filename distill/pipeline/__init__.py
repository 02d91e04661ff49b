"""A job as a sequence of steps, none of which is done twice.

1. ``record`` keeps the run directory: what happened, how far it is, what came out.
2. ``steps`` names each step by what goes into it, so that any job finds what another has done.
3. ``work`` does a step: train, evaluate, export.
4. ``planning`` names all of a spec in order: teach, embed, generations, evaluate, export.
5. ``generations`` chooses among the candidates of a generation, and says when to stop.
6. ``job`` does them.
"""
