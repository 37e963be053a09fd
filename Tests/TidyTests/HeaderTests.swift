import Foundation
import Testing

/// The header is the contract; the compiler checks that every body agrees with it, and no more.
@Suite("Header")
struct HeaderTests {
  @Test(
    "the header compiles alone, without a warning",
    arguments: [
      ["cc", "-std=c99", "-x", "c"], ["cc", "-std=c11", "-x", "c"],
      ["c++", "-std=c++17", "-x", "c++"],
    ])
  func headerCompilesAlone(compiler: [String]) throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments =
      compiler + [
        "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only",
        SourceTree.root.appending(path: "include/switchover.h").path,
      ]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }

  @Test func everyDeclaredFunctionIsImplementedAndNoOther() throws {
    let declared = try declaredFunctions()
    #expect(declared.count > 60)
    let implemented = SourceTree.files
      .filter { $0.isSwift && $0.lies(in: "Sources/SwitchoverABI") }
      .flatMap {
        SwiftText($0.text).code.matches(of: #/@c\s+@implementation\s+public func (swo_\w+)/#)
      }
      .map { String($0.1) }
    #expect(implemented.count == Set(implemented).count)
    #expect(declared.subtracting(implemented).sorted() == [])
    #expect(Set(implemented).subtracting(declared).sorted() == [])
  }

  @Test("nothing is exported but through the header")
  func noOtherExport() throws {
    let export = try Regex(#"@(_cdecl|_silgen_name|c\s*\()"#)
    for file in SourceTree.librarySources {
      for (number, line) in SwiftText(file.text).numberedLines {
        #expect(line.firstMatch(of: export) == nil, "\(file.path):\(number): \(line)")
      }
    }
  }

  @Test func theLinkerMapNamesTheDeclaredFunctions() throws {
    let map = try withoutComments(SourceTree.text("packaging/libswitchover.map"))
    let named = map.matches(of: #/\b(swo_\w+);/#).map { String($0.1) }
    #expect(named == named.sorted())
    #expect(Set(named) == (try declaredFunctions()))
  }

  @Test func theChangesMentionTheVersion() throws {
    let version = try version()
    #expect(try SourceTree.text("CHANGES.md").contains("## \(version)"))
  }

  private func version() throws -> String {
    let header = try SourceTree.text("include/switchover.h")
    let parts = try ["MAJOR", "MINOR", "PATCH"].map { part in
      let pattern = try Regex(
        "#define SWO_VERSION_\(part) ([0-9]+)", as: (Substring, Substring).self)
      return String(try #require(header.firstMatch(of: pattern)).1)
    }
    return parts.joined(separator: ".")
  }

  private func declaredFunctions() throws -> Set<String> {
    let header = try withoutComments(SourceTree.text("include/switchover.h"))
    return Set(header.matches(of: #/\b(swo_\w+)\s*\(/#).map { String($0.1) })
  }

  private func withoutComments(_ text: String) -> String {
    text.replacing(#/(?s)/\*.*?\*//#, with: "")
  }
}
