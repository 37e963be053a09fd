import Glibc
import MigrationSession
import Platform
import Testing

@testable import Runtime

extension RuntimeTests {
  @Suite struct Tunnels {
    @Test func addressesOfOtherHosts() throws {
      let all: [(String, Endpoint)] = [
        ("ssh://node2/run/a.qmp", .ssh(user: nil, host: "node2", port: nil, path: "/run/a.qmp")),
        ("ssh://root@node2:2222/a", .ssh(user: "root", host: "node2", port: 2222, path: "/a")),
        (
          "ssh://root@[fe80::1%eth0]:22/a",
          .ssh(user: "root", host: "fe80::1%eth0", port: 22, path: "/a")
        ),
        ("ssh://a@b@node2/a", .ssh(user: "a@b", host: "node2", port: nil, path: "/a")),
        ("ssh:///run/a.qmp", .ssh(user: nil, host: "", port: nil, path: "/run/a.qmp")),
      ]
      for (text, endpoint) in all {
        #expect(try Endpoint(address: text) == endpoint)
        #expect(try Endpoint(address: endpoint.description) == endpoint)
      }
    }

    @Test(arguments: [
      "ssh://node2", "ssh://-oProxyCommand=x/a", "ssh://-l@node2/a", "ssh://node2:0/a",
      "ssh://node2:66000/a", "ssh://no de/a", "ssh://$(x)/a", "ssh://root@/a", "ssh://:22/a",
      "ssh://;x/a", "ssh://node2/\(String(repeating: "x", count: 107))", "ssh://node2/a\nb",
    ])
    func noAddressesOfOtherHosts(text: String) {
      #expect(throws: AddressError.self) { try Endpoint(address: text) }
    }

    @Test func commandLine() {
      let named = SSHCommand(["ssh", "-F", "/x"], user: "root", host: "node2", port: 2222)
      let words = named.arguments(
        options: ["A=b"], forwards: [("/here/a", "/there:is/100%\\b")], remoteCommand: "true")
      #expect(words.starts(with: ["ssh", "-F", "/x", "-o"]))
      #expect(
        words.suffix(11) == [
          "-o", "A=b", "-L", #"/here/a:/there\:is/100%%\\b"#, "-p", "2222", "-l", "root", "--",
          "node2", "true",
        ])
      #expect(named.questionArguments.suffix(6) == ["-p", "2222", "-l", "root", "--", "node2"])
      let whole = SSHCommand(["ssh", "root@node2"], user: nil, host: "", port: nil)
      #expect(whole.arguments(options: [], forwards: [], remoteCommand: "true").last == "true")
      #expect(whole.questionArguments.last == "-G")
    }

    @Test func wordsOfTheProgram() {
      let frame = "@@@@@@@@\n@    WARNING    @\n@@@@@@@@\n"
      let text = frame + "Offending key in /a:3\r\n  remove it\nIt is \u{1B}[1mbad\u{7}.\nFailed.\n"
      #expect(
        SSHWords.essence(of: text) == "Offending key in /a:3; It is [1mbad.; Failed.")
      #expect(SSHWords.essence(of: "\n\n") == "it said nothing")
      #expect(SSHWords.lines(of: String(repeating: "x", count: 5000))[0].count == 400)
    }

    @Test func readsTheConfigurationOfTheProgram() throws {
      let directory = try TestDirectory()
      let configuration = directory.file("config")
      try write(
        """
        Host there
          HostName 127.0.0.1
          Port 2222
          User somebody
          IdentityFile \(directory.path)/%h-%r.key
          UserKnownHostsFile \(directory.path)/known
          HostKeyAlias node2
          Ciphers aes256-ctr,aes128-gcm@openssh.com
        Host proxied
          ProxyJump elsewhere
        """, to: configuration)
      var options = SSHOptions()
      options.command = ["ssh", "-F", configuration]
      let settings = try SSHSettings(user: nil, host: "there", port: nil, options: options)
      #expect(settings.destination == "somebody@127.0.0.1")
      let way = try settings.library.get()
      #expect(way.configuration.port == 2222)
      #expect(
        way.configuration.keyFiles.map(\.path) == ["\(directory.path)/127.0.0.1-somebody.key"])
      guard case .knownHosts(let files, let alias) = way.configuration.hostKeyRule else {
        Issue.record("no known hosts")
        return
      }
      #expect(files.first == "\(directory.path)/known" && alias == "node2")
      if HostFacts.hasAES {
        #expect(settings.ciphers == "aes128-gcm@openssh.com,aes256-ctr")
      } else {
        #expect(settings.ciphers == nil)
      }
      let proxied = try SSHSettings(user: nil, host: "proxied", port: nil, options: options)
      #expect(throws: SSHSettings.Obstacle.self) { try proxied.library.get() }
    }

    @Test(arguments: [
      "StrictHostKeyChecking=no", "StrictHostKeyChecking=accept-new", "BatchMode=no",
      "ExitOnForwardFailure=no", "ControlPath=/tmp/x",
    ])
    func refusesCommandsThatUndoItsPromises(option: String) throws {
      var options = SSHOptions()
      options.command = ["ssh", "-F", "none", "-o", option]
      let error = #expect(throws: RouteError.self) {
        try SSHSettings(user: nil, host: "127.0.0.1", port: nil, options: options)
      }
      #expect(error?.description.contains(option.prefix { $0 != "=" }) == true)
    }

    @Test(arguments: [
      [], ["/nonexistent/ssh"], ["false"], ["sh", "-c", "yes"], ["sh", "-c", "exit 3"],
    ])
    func refusesProgramsThatAreNoSSH(command: [String]) throws {
      var options = SSHOptions()
      options.command = command.isEmpty ? ["ssh", "-F", "/dev/null/none"] : command
      #expect(throws: RouteError.self) {
        try SSHSettings(user: nil, host: "127.0.0.1", port: nil, options: options)
      }
    }

    /// The socket directory's disk is full: nothing is begun, and nothing is left.
    @Test(arguments: [SystemCall.makeDirectory])
    func noRoomForSockets(call: SystemCall) throws {
      let loop = try Loop()
      loop.ssh.command = ["ssh", "-F", "none"]
      let endpoint = Endpoint.ssh(user: nil, host: "127.0.0.1", port: 1, path: "/x")
      let error = FaultInjection.failing(call, errno: 28, count: 100) {
        #expect(throws: RouteError.self) { try Route(to: endpoint, in: loop) }
      }
      #expect(error?.description.contains("No space left on device") == true)
    }

    private func write(_ text: String, to path: String) throws {
      let file = try #require(fopen(path, "w"))
      fputs(text, file)
      fclose(file)
    }
  }
}
