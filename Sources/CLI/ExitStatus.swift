import CSwitchover

/// How a command that migrates ends, which tells a script who owns the guest now.
enum ExitStatus: Int32, CaseIterable {
  case asAsked = 0
  case nothingStarted = 1
  case sourceOwns = 10
  case targetOwns = 11
  case nobodyOwns = 12
  case ownerUnknown = 13

  /// The status of a migration, from the library's end and owner (`swo_end`, `swo_owner`).
  ///
  /// An owner that this version does not know is unknown.
  init(end: Int32, owner: Int32) {
    if end == swo_end.SWO_END_COMPLETED.number {
      self = .asAsked
      return
    }
    switch owner {
    case swo_owner.SWO_OWNER_SOURCE.number: self = .sourceOwns
    case swo_owner.SWO_OWNER_TARGET.number: self = .targetOwns
    case swo_owner.SWO_OWNER_NOBODY.number: self = .nobodyOwns
    default: self = .ownerUnknown
    }
  }

  /// What the status means, for people.
  var meaning: String {
    switch self {
    case .asAsked: "done as asked; after a migration the target owns the guest"
    case .nothingStarted: "wrong usage, or a local error before anything was started"
    case .sourceOwns: "it ended with the guest on the source"
    case .targetOwns: "the target owns the guest, but not everything succeeded"
    case .nobodyOwns: "nobody owns the guest: both sides stand; the next step is printed"
    case .ownerUnknown: "the owner is unknown: resume nothing before that is settled"
    }
  }

  /// The table for the help texts.
  static let table: String = allCases.map { status in
    let number = String(status.rawValue)
    return "  " + String(repeating: " ", count: 2 - number.count) + "\(number)  \(status.meaning)"
  }.joined(separator: "\n")
}
