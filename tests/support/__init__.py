"""What more than one folder of tests uses: waiting, clocks, clouds and other servers."""
