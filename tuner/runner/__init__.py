"""The process that works: it claims jobs, keeps their leases alive and has a coordinator carry each through its stages."""
