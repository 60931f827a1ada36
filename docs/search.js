// From the disk a browser starts no worker, which searching takes: no box then that does nothing.
if (location.protocol === "file:") {
  document.querySelectorAll('.md-search, .md-header [for="__search"]').forEach(element => element.remove());
}
