"""People review what the checks flagged: cases, decisions that cannot get lost, their outcome."""
