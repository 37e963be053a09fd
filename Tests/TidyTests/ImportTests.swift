import Testing

/// Which module may import which, so that what is pure stays pure: SwiftPM does not stop an import
/// of the system's modules.
@Suite("Imports")
struct ImportTests {
  /// What each folder of Sources with Swift files may import.
  static let allowed: [String: Set<String>] = [
    "MigrationEngine": [],
    "QMP": ["CJSONC"],
    "MigrationSession": ["MigrationEngine", "QMP"],
    "Platform": ["CPlatform", "Glibc"],
    "SSH": ["CLibSSH2", "CSSHTransport", "CPlatform", "Glibc", "MigrationEngine", "Platform"],
    "Runtime": ["MigrationEngine", "MigrationSession", "QMP", "Platform", "SSH"],
    "SwitchoverABI": ["CSwitchover", "MigrationEngine", "MigrationSession", "QMP", "Runtime"],
    "Simulation": ["MigrationEngine", "MigrationSession", "QMP"],
    "SimulationCLI": ["CMalloc", "Glibc", "MigrationEngine", "Simulation"],
    "DemoGuest": [],
    "CLI": ["ArgumentParser", "CSwitchover", "DemoGuest", "CPlatform", "Glibc"],
  ]

  @Test("a module imports only what the list allows", arguments: allowed.keys.sorted())
  func importsAreOnTheList(module: String) throws {
    let list = try #require(Self.allowed[module])
    for file in SourceTree.files where file.isSwift && file.lies(in: "Sources/\(module)") {
      for name in imports(of: file) {
        #expect(list.contains(name), "\(file.path) imports \(name)")
      }
    }
  }

  @Test func everyModuleIsOnTheList() {
    for file in SourceTree.files where file.isSwift && file.lies(in: "Sources") {
      let module = file.path.split(separator: "/").dropFirst().first.map(String.init) ?? ""
      #expect(Self.allowed[module] != nil, "\(file.path): state what \(module) may import")
    }
  }

  /// The host program owns its threads: nothing below the C interface may start one or suspend.
  @Test func theLibraryKnowsNoConcurrency() throws {
    let word = try Regex(#"\b(async|await|Task|actor|Dispatch\w*|DispatchQueue|Thread)\b"#)
    for file in SourceTree.librarySources {
      for (number, line) in SwiftText(file.text).numberedLines {
        #expect(line.firstMatch(of: word) == nil, "\(file.path):\(number): \(line)")
      }
    }
  }

  private func imports(of file: SourceTree.File) -> [String] {
    let pattern = #/\bimport\s+(?:(?:struct|class|enum|func|var|typealias|protocol)\s+)?(\w+)/#
    return SwiftText(file.text).code.matches(of: pattern).map { String($0.1) }
  }
}
