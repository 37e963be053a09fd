import Foundation

/// The files of this checkout, without what is built or downloaded into it.
enum SourceTree {
  /// One text file.
  struct File: Sendable {
    /// Relative to the checkout.
    let path: String
    let text: String

    var name: String { String(path.split(separator: "/").last ?? "") }
    var isSwift: Bool { name.hasSuffix(".swift") }
    var isC: Bool { name.hasSuffix(".c") || name.hasSuffix(".h") }

    /// Whether the file lies in this folder, such as "Sources/QMP".
    func lies(in folder: String) -> Bool { path.hasPrefix(folder + "/") }
  }

  /// The modules that the shared library consists of: whatever it is, it runs inside somebody
  /// else's process.
  static let libraryModules = [
    "MigrationEngine", "QMP", "MigrationSession", "SSH", "Platform", "Runtime", "SwitchoverABI",
  ]

  static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Every text file, sorted by path.
  static let files: [File] = {
    let skipped = ignoredNames()
    let walk = FileManager.default.enumerator(
      at: root, includingPropertiesForKeys: [.isRegularFileKey])
    var files: [File] = []
    while let url = walk?.nextObject() as? URL {
      let name = url.lastPathComponent
      if skipped.contains(where: { matches(name, $0) }) {
        walk?.skipDescendants()
        continue
      }
      let isFile = try? url.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile
      guard isFile == true, let data = FileManager.default.contents(atPath: url.path),
        let text = String(validating: data, as: UTF8.self)
      else { continue }
      files.append(File(path: String(url.path.dropFirst(root.path.count + 1)), text: text))
    }
    return files.sorted { $0.path < $1.path }
  }()

  /// Every Swift file of the modules that the shared library consists of.
  static var librarySources: [File] {
    files.filter { file in
      file.isSwift && libraryModules.contains { file.lies(in: "Sources/\($0)") }
    }
  }

  static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  /// The names and endings that git ignores.
  private static func ignoredNames() -> [String] {
    let lines = (try? text(".gitignore")) ?? ""
    let names = lines.split(separator: "\n").map {
      $0.trimmingCharacters(in: CharacterSet(charactersIn: "/ "))
    }
    return names + [".git"]
  }

  private static func matches(_ name: String, _ pattern: String) -> Bool {
    fnmatch(pattern, name, 0) == 0
  }
}
