import CSwitchover

/// One of the two QEMUs, as an operator names it.
enum Side: String, CaseIterable {
  case source
  case target

  var libraryValue: swo_side { self == .source ? .SWO_SIDE_SOURCE : .SWO_SIDE_TARGET }
}

/// Where ownership is, by the operator's word.
enum OwnershipWord: String, CaseIterable {
  case source
  case target
  /// There is no cluster.
  case none

  var libraryValue: swo_side {
    switch self {
    case .source: .SWO_SIDE_SOURCE
    case .target: .SWO_SIDE_TARGET
    case .none: .SWO_SIDE_NONE
    }
  }
}

/// Everything that is asked of one recovery.
struct RecoveryPlan: Equatable {
  /// An absolute path.
  var journal: String?
  var source: String?
  var target: String?
  var outOfBandMonitor: String?
  var fenced: [Side] = []
  var ownership: OwnershipWord?
  var guestRan: Bool?
  var targetNeverRan = false
  var isDryRun = false
  var settleMilliseconds: UInt64?
  var ssh = SSHPlan()

  /// The same as words of a command line, dry or not.
  var commandLine: String {
    var words = ["switchover", "recover"]
    if let journal { words.append(shellWord(journal)) }
    if let source { words += ["--source", shellWord(source)] }
    if let target { words += ["--target", shellWord(target)] }
    if let outOfBandMonitor { words += ["--source-oob", shellWord(outOfBandMonitor)] }
    for side in fenced { words += ["--fenced", side.rawValue] }
    if let ownership { words += ["--ownership", ownership.rawValue] }
    if let guestRan { words += ["--guest-ran", guestRan ? "yes" : "no"] }
    if targetNeverRan { words.append("--target-never-ran") }
    words += ssh.words
    return words.joined(separator: " ")
  }
}
