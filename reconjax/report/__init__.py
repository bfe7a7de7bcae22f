"""One page about a data set: what reconstruction learns of it, and which mask mends that.

writing    `write`: a data set in, a page out
gathering  the studies, taken up or made
dims       which K the page offers
curves     the numbers of the figures, as tables
charts     figures that answer to the slider, by Vega-Lite
pictures   rows of images
figures    which figures a page has
words      noises, numbers and recipes in words
sentences  what the page says, for each K
page       all of it as HTML; with page.html, page.css, page.js, and notices.txt of what they hold
commands   `training_commands`: what trains what is advised
"""

from reconjax.report.commands import training_commands
from reconjax.report.writing import write

__all__ = ["training_commands", "write"]
