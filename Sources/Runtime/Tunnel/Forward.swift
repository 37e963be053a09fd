/// A unix socket of another host that a program here is to reach by a socket of ours.
struct Forward {
  /// What goes through it; also the name of the socket in the private directory.
  enum Purpose: String {
    case monitor
    case memory
    case storage

    /// For people.
    var words: String {
      switch self {
      case .monitor: "monitor"
      case .memory: "memory"
      case .storage: "disks"
      }
    }
  }

  let purpose: Purpose
  /// The socket's path on the other host.
  let path: String

  init(_ purpose: Purpose, path: String) {
    self.purpose = purpose
    self.path = path
  }

  var localName: String { purpose.rawValue }
}
