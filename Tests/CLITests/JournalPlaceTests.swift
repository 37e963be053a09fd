import Foundation
import Testing

@testable import CLI

@Suite("Where the journal lies")
struct JournalPlaceTests {
  private let plan = MigrationPlan(
    name: "vm 100/x", source: "unix:/run/a.qmp", target: "/b", uri: "unix:/m")

  @Test("by default root has one, named after the guest, in a folder that can be made")
  func byDefault() throws {
    let parent = NSTemporaryDirectory() + "switchover-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    let folder = parent + "/journals"
    for _ in 1...2 {
      let place = JournalPlace(nil, for: plan, folder: folder, isRoot: true)
      #expect(place.path == "\(folder)/vm_100_x.journal")
      #expect(place.warning == nil)
    }
    let inside = JournalPlace(nil, for: plan, folder: folder + "/x/y", isRoot: true)
    #expect(inside.path == nil)
    #expect(inside.warning?.contains("/x/y: No such file") == true)
    let file = parent + "/file"
    #expect(FileManager.default.createFile(atPath: file, contents: nil))
    let noFolder = JournalPlace(nil, for: plan, folder: file, isRoot: true)
    #expect(noFolder.path == nil && noFolder.warning?.contains("is no directory") == true)
    let attributes = try FileManager.default.attributesOfItem(atPath: folder)
    #expect(attributes[.posixPermissions] as? Int == 0o700)
  }

  @Test("without root there is none, and one line says so")
  func nowhere() {
    let user = JournalPlace(nil, for: plan, isRoot: false)
    #expect(user.path == nil && user.warning?.contains("--journal") == true)
  }

  @Test("what was asked for is taken, and made absolute")
  func chosen() {
    let file = JournalPlace(JournalChoice(argument: "/x/y"), for: plan)
    #expect(file.path == "/x/y" && file.warning == nil)
    let here = FileManager.default.currentDirectoryPath
    #expect(JournalPlace(.file("y"), for: plan).path == here + "/y")
    let none = JournalPlace(JournalChoice(argument: "none"), for: plan)
    #expect(none.path == nil && none.warning == nil)
    #expect(JournalChoice(argument: "") == nil)
  }

  @Test("a file's name is harmless, and never longer than a file system takes")
  func names() {
    var plan = plan
    plan.name = nil
    #expect(JournalPlace.fileName(for: plan) == "unix__run_a.qmp.journal")
    plan.name = "../é"
    #expect(JournalPlace.fileName(for: plan) == "_..___.journal")
    plan.source = String(repeating: "x", count: 1000)
    plan.name = ""
    #expect(JournalPlace.fileName(for: plan).utf8.count < 255)
  }

  @Test func aPathIsOneWordForAShell() {
    #expect(shellWord("/var/lib/a.journal") == "/var/lib/a.journal")
    #expect(shellWord("a b") == "'a b'")
    #expect(shellWord("it's $HOME") == #"'it'\''s $HOME'"#)
    #expect(shellWord("") == "''")
  }
}
