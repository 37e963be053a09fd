import ArgumentParser
import Glibc

/// What the operator says about the journal.
enum JournalChoice: ExpressibleByArgument, Equatable {
  case file(String)
  case none

  init?(argument: String) {
    switch argument {
    case "": return nil
    case "none": self = .none
    default: self = .file(argument)
    }
  }
}

/// Where the journal of a migration lies.
struct JournalPlace: Equatable {
  /// Where journals lie unless somebody says otherwise; only root writes there.
  static let folder = "/var/lib/switchover"

  /// The absolute path, or nil where no journal is written.
  var path: String?
  /// Why there is none, although nobody asked for that.
  var warning: String?

  /// The place that was chosen, or by default a file in the folder, named after the guest; the folder
  /// is made where it is missing.
  init(
    _ choice: JournalChoice?, for plan: MigrationPlan, folder: String = Self.folder,
    isRoot: Bool = geteuid() == 0
  ) {
    switch choice {
    case .some(.none): return
    case .file(let path)?: self.path = Self.absolute(path)
    case nil:
      guard isRoot else {
        warning = "no journal for a recovery: only root writes to \(folder); --journal names a file"
        return
      }
      if let problem = Self.make(folder) {
        warning = "no journal for a recovery: \(problem)"
        return
      }
      path = "\(folder)/\(Self.fileName(for: plan))"
    }
  }

  /// The guest's name, or else its monitor's address, with only what is harmless in a file's name.
  static func fileName(for plan: MigrationPlan) -> String {
    let name = plan.name.flatMap { $0.isEmpty ? nil : $0 } ?? plan.source
    let harmless = name.utf8.suffix(128).map { byte -> Character in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."):
        Character(UnicodeScalar(byte))
      default: "_"
      }
    }
    // A name that begins with a dot would be hidden from whoever looks for it.
    return (harmless.first == "." ? "_" : "") + String(harmless) + ".journal"
  }

  /// Makes a private directory unless it is there; returns what went wrong, if anything.
  private static func make(_ folder: String) -> String? {
    if mkdir(folder, 0o700) == 0 { return nil }
    guard errno == EEXIST else { return systemError("make \(folder)") }
    var status = stat()
    guard stat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      return "\(folder) is no directory"
    }
    guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      return "others than its owner may write to \(folder), or user \(status.st_uid) owns it"
    }
    return nil
  }

  /// A path as the library takes it.
  static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let current = getcwd(nil, 0) else { return path }
    defer { free(current) }
    return "\(String(cString: current))/\(path)"
  }
}
