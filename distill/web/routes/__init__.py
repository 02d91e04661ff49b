"""The pages, a file for each subject: `router(site)` has its addresses."""
