// switchover-sim: runs worlds and says which rule one of them broke.

import Glibc

do throws(Options.Problem) {
  let options = try Options(CommandLine.arguments.dropFirst())
  if let list = options.list {
    exit(try WorldList(path: list, keepsGoing: options.keepsGoing).run() ? 0 : 1)
  }
  if !options.faults.isEmpty || options.exploredFaults > 0 {
    var explorer = Explorer(options)
    exit(explorer.run() ? 0 : 1)
  }
  var campaign = Campaign(options)
  exit(campaign.run() ? 0 : 1)
} catch {
  print("switchover-sim: \(error.text)")
  print(Options.usage)
  exit(2)
}
