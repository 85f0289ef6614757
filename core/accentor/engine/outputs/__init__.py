"""What is made of a result: pictures, files, films, figures and pages. Nothing here changes a result."""
