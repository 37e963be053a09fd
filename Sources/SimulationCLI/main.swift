// switchover-sim: runs worlds and says which rule one of them broke.

do throws(Options.Problem) {
  let options = try Options(CommandLine.arguments.dropFirst())
  if !options.faults.isEmpty || options.exploredFaults > 0 {
    var explorer = Explorer(options)
    exitNow(explorer.run() ? 0 : 1)
  }
  var campaign = Campaign(options)
  exitNow(campaign.run() ? 0 : 1)
} catch {
  print("switchover-sim: \(error.text)")
  print(Options.usage)
  exitNow(2)
}
