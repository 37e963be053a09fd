import Foundation
import QEMUHarness
import Testing

/// What the program does about the journal of a migration when the file or its disk is not as it should be.
@Suite("the journal of switchover migrate", .serialized)
struct JournalTests {
  /// What lies where the journal is to be written.
  enum Leftover: String, CaseIterable, Sendable {
    case link, readable, secondName, foreign, newer, torn, altered, folder, otherOwner

    var complaint: String {
      switch self {
      case .link: "it is a symbolic link"
      case .readable: "others than its owner may use it"
      case .secondName: "it has more than one name"
      case .foreign: "this is no journal of a migration"
      case .newer: "the journal is of version 7, newer than 1"
      case .torn, .altered: "the journal is damaged: cut short, or altered"
      case .folder: "Is a directory"
      case .otherOwner: "user 65534 owns it"
      }
    }

    /// Only root gives files away.
    static let possible = allCases.filter { $0 != .otherOwner || geteuid() == 0 }
  }

  @Test("whatever is not its own is refused, and left as it is", arguments: Leftover.possible)
  func leftover(_ leftover: Leftover) throws {
    let pair = try QEMUPair()
    let path = pair.journal
    try Self.make(leftover, at: path)
    let before = FileManager.default.contents(atPath: path)
    let run = try CommandRun(pair.migration)
    #expect(run.waitForExit() == 1, "\(run.errors)")
    #expect(run.errors.contains(leftover.complaint), "\(run.errors)")
    #expect(FileManager.default.contents(atPath: path) == before)
    // It refused before it had spoken to anybody.
    #expect(try pair.source.monitor.migrationStatus() == "")
    #expect(try pair.target.monitor.runState() == "inmigrate")
    #expect(pair.ticks.isTicking(.source))
    let recovery = try CommandRun(["recover", path])
    #expect(recovery.waitForExit() == 1, "\(recovery.errors)")
    #expect(recovery.errors.contains(leftover.complaint), "\(recovery.errors)")
  }

  @Test("the journal of an abandoned migration is not overwritten by the next one")
  func unsettled() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(pair.migration + ["--hand-over-command", "kill -9 $PPID"])
    #expect(run.waitForExit() == nil)
    let intent = try #require(FileManager.default.contents(atPath: pair.journal))
    let next = try CommandRun(pair.migration)
    #expect(next.waitForExit() == 1)
    #expect(
      next.errors.contains("\(pair.journal) is the journal of a migration that is not settled"),
      "\(next.errors)")
    #expect(FileManager.default.contents(atPath: pair.journal) == intent)
    try pair.ticks.assertSilentOnBothSides()
    let recovery = try CommandRun(["recover", pair.journal, "--ownership", "source"])
    #expect(recovery.waitForExit() == 0, "\(recovery.errors)")
    #expect(pair.ticks.isTicking(.source))
    // A settled one is.
    let again = try pair.withNewTarget(named: "again")
    let third = try CommandRun(
      ["migrate"] + again.arguments + ["--journal", pair.journal])
    #expect(third.waitForExit() == 0, "\(third.errors)")
    #expect(again.ticks.isTicking(.target))
  }

  /// A file system of so many pages, all but `free` of them in use, for one program alone.
  private static func onSmallDisk(
    _ pair: QEMUPair, pages: Int, free: Int, then commands: String
  ) throws -> CommandRun {
    let folder = pair.directory.file("disk")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    let migration = (["migrate"] + pair.arguments + ["--journal", "\(folder)/vm.journal"])
      .map { "'\($0)'" }.joined(separator: " ")
    return try CommandRun(
      shell: """
        unshare --mount sh -ec '
          mount -t tmpfs -o size=\(pages * 4)k small "$1"
          head -c \((pages - free) * 4096) /dev/zero >"$1/other"
          cd "$1"; shift
          eval "$1"
        ' sh \(folder) \(Self.quoted("\"$SWITCHOVER\" \(migration) || echo \"exit $?\"\n" + commands))
        """)
  }

  private static func quoted(_ text: String) -> String {
    "'" + text.replacingOccurrences(of: "'", with: #"'\''"#) + "'"
  }

  private static let needsRoot = "a small disk is a mount, which needs root"

  @Test(
    "a disk that is full before anything is changed keeps the guest where it is",
    .enabled(if: geteuid() == 0, Comment(rawValue: needsRoot)))
  func fullAtIntent() throws {
    let pair = try QEMUPair()
    let run = try Self.onSmallDisk(pair, pages: 1, free: 0, then: "ls -s vm.journal*")
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output.contains("exit 10\n"), "\(run.output)\(run.errors)")
    #expect(
      run.errors.contains("the journal could not be written")
        && run.errors.contains("No space left on device"), "\(run.errors)")
    // Nothing is left that the next one would stumble over.
    #expect(run.output.contains("0 vm.journal\n") && !run.output.contains(".new"), "\(run.output)")
    #expect(pair.ticks.isTicking(.source))
    try pair.ticks.assertSilent(.target)
    #expect(try pair.source.monitor.migrationStatus() == "")
  }

  @Test(
    "a disk that is full at the end is told, and the guest has moved",
    .enabled(if: geteuid() == 0, Comment(rawValue: needsRoot)))
  func fullAtOutcome() throws {
    let pair = try QEMUPair()
    let run = try Self.onSmallDisk(
      pair, pages: 2, free: 1,
      then: """
        "$SWITCHOVER" recover --all --directory .
        "$SWITCHOVER" recover vm.journal && echo "exit $?"
        rm other
        "$SWITCHOVER" recover vm.journal && echo "exit $?"
        "$SWITCHOVER" recover --all --directory . --verbose
        """)
    #expect(run.waitForExit() == 0, "\(run.output)\(run.errors)")
    #expect(!run.output.contains("exit 1"), "\(run.output)\(run.errors)")
    #expect(
      run.errors.contains("No space left on device (ENOSPC): the outcome is not in the journal"),
      "\(run.errors)")
    // What is there still tells the truth to a recovery.
    #expect(
      run.output.contains("/vm.journal (vm 100): its migration was abandoned"), "\(run.output)")
    #expect(run.output.split(separator: "\n").count { $0 == "exit 0" } == 2, "\(run.output)")
    #expect(run.output.contains("/vm.journal (vm 100): owner target"), "\(run.output)")
    #expect(pair.ticks.isTicking(.target))
  }

  @Test(
    "root has one by default, which recovery finds",
    .enabled(if: geteuid() == 0, Comment(rawValue: needsRoot)))
  func byDefault() throws {
    let pair = try QEMUPair()
    let migration = (["migrate"] + pair.arguments).map(Self.quoted).joined(separator: " ")
    let run = try CommandRun(
      shell: """
        unshare --mount sh -c \(Self.quoted("""
          mount -t tmpfs none /var/lib
          "$SWITCHOVER" \(migration) --hand-over-command 'kill -9 $PPID'
          stat -c '%a %n' /var/lib/switchover /var/lib/switchover/*
          "$SWITCHOVER" recover --all
          "$SWITCHOVER" recover /var/lib/switchover/vm_100.journal --ownership target; echo "exit $?"
          "$SWITCHOVER" recover --all; echo "all $?"
          """))
        """)
    #expect(run.waitForExit() == 0, "\(run.output)\(run.errors)")
    let path = "/var/lib/switchover/vm_100.journal"
    #expect(run.output.contains("700 /var/lib/switchover\n600 \(path)\n"), "\(run.output)")
    #expect(run.output.contains("open         \(path) (vm 100): its migration was abandoned"))
    #expect(run.output.contains("next: switchover recover \(path)\n"), "\(run.output)")
    #expect(run.output.contains("exit 0\nall 0\n"), "\(run.output)\(run.errors)")
    #expect(pair.ticks.isTicking(.target))
  }

  private static func make(_ leftover: Leftover, at path: String) throws {
    func write(_ text: String, to path: String, mode: Int = 0o600) {
      #expect(
        FileManager.default.createFile(
          atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: mode]))
    }
    switch leftover {
    case .link:
      write("", to: path + ".real")
      #expect(symlink(path + ".real", path) == 0)
    case .readable: write("", to: path, mode: 0o644)
    case .secondName:
      write("", to: path)
      #expect(link(path, path + ".second") == 0)
    case .foreign: write("-----BEGIN OPENSSH PRIVATE KEY-----\n", to: path)
    case .newer: write("switchover-journal 7 0 2\n{}\n", to: path)
    case .torn: write("switchover-journal 1 1a2b3c4d 800\n{\"name\":\"vm", to: path)
    case .altered: write("switchover-journal 1 1a2b3c4d 2\n{}\n", to: path)
    case .folder: #expect(mkdir(path, 0o700) == 0)
    case .otherOwner:
      write("", to: path)
      #expect(chown(path, 65534, 65534) == 0)
    }
  }
}
