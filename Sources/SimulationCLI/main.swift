// switchover-sim: runs worlds by their seeds and says which rule one of them broke.

do throws(Options.Problem) {
  var campaign = Campaign(try Options(CommandLine.arguments.dropFirst()))
  exitNow(campaign.run() ? 0 : 1)
} catch {
  print("switchover-sim: \(error.text)")
  print(Options.usage)
  exitNow(2)
}
