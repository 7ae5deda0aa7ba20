"""The report: what is counted for it, and the page that shows it."""
