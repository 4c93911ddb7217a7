"""Tables and pages in an object store: imported only where a data set's store is one."""
