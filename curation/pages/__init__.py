"""What all HTML pages share: the style sheet, and templates that escape what others wrote."""
