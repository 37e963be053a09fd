import Glibc

/// The folder where journals lie.
enum JournalFolder {
  /// The paths of its journals, by name; none where the folder is missing.
  static func journals(in folder: String) throws -> [String] {
    guard let directory = opendir(folder) else {
      if errno == ENOENT { return [] }
      throw CommandFailure(local: systemError("read \(folder)"))
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasSuffix(".journal") { names.append(name) }
    }
    return names.sorted().map { "\(folder)/\($0)" }
  }
}
