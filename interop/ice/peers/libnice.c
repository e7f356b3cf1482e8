/* A libnice agent that talks to a test by lines on its standard streams, and echoes data.
 *
 *   libnice controlling|controlled udp|tcp [turn-udp|turn-tcp ADDRESS PORT USER PASSWORD]
 */
#include <agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NiceAgent *agent;
static guint stream;
static GMainLoop *loop;

static void say(const char *word, const char *rest) {
  printf("%s %s\n", word, rest);
  fflush(stdout);
}

static void on_candidate(NiceAgent *a, NiceCandidate *candidate, gpointer data) {
  gchar *line = nice_agent_generate_local_candidate_sdp(a, candidate);
  say("candidate", line + strlen("a="));
  g_free(line);
}

static void on_gathered(NiceAgent *a, guint s, gpointer data) {
  say("complete", "");
}

static void on_state(NiceAgent *a, guint s, guint component, guint state, gpointer data) {
  say("state", nice_component_state_to_string(state));
}

static void on_data(NiceAgent *a, guint s, guint component, guint length, gchar *bytes, gpointer data) {
  nice_agent_send(a, s, component, length, bytes);
}

static void say_credentials(void) {
  gchar *ufrag = NULL, *pwd = NULL;
  nice_agent_get_local_credentials(agent, stream, &ufrag, &pwd);
  printf("credentials %s %s\n", ufrag, pwd);
  fflush(stdout);
  g_free(ufrag);
  g_free(pwd);
}

/* RFC 8445 section 9: other credentials, the same candidates told again. */
static void restart(void) {
  nice_agent_restart_stream(agent, stream);
  say_credentials();
  GSList *candidates = nice_agent_get_local_candidates(agent, stream, 1);
  for (GSList *each = candidates; each != NULL; each = each->next)
    on_candidate(agent, each->data, NULL);
  g_slist_free_full(candidates, (GDestroyNotify)nice_candidate_free);
  say("complete", "");
}

static gboolean on_line(GIOChannel *input, GIOCondition condition, gpointer data) {
  gchar *line = NULL;
  if (g_io_channel_read_line(input, &line, NULL, NULL, NULL) != G_IO_STATUS_NORMAL) {
    g_main_loop_quit(loop);
    return FALSE;
  }
  g_strchomp(line);
  if (g_str_has_prefix(line, "credentials ")) {
    gchar **words = g_strsplit(line, " ", 3);
    nice_agent_set_remote_credentials(agent, stream, words[1], words[2]);
    g_strfreev(words);
  } else if (g_str_has_prefix(line, "candidate ")) {
    gchar *text = g_strconcat("a=", line + strlen("candidate "), NULL);
    NiceCandidate *candidate = nice_agent_parse_remote_candidate_sdp(agent, stream, text);
    if (candidate != NULL) {
      GSList *one = g_slist_append(NULL, candidate);
      nice_agent_set_remote_candidates(agent, stream, 1, one);
      g_slist_free_full(one, (GDestroyNotify)nice_candidate_free);
    } else {
      say("unreadable", text);
    }
    g_free(text);
  } else if (g_str_has_prefix(line, "restart")) {
    restart();
  } else if (g_str_has_prefix(line, "complete")) {
    nice_agent_peer_candidate_gathering_done(agent, stream);
  }
  g_free(line);
  return TRUE;
}

int main(int count, char **words) {
  gboolean udp = strcmp(words[2], "udp") == 0;
  loop = g_main_loop_new(NULL, FALSE);
  agent = nice_agent_new_full(NULL, NICE_COMPATIBILITY_RFC5245,
                              NICE_AGENT_OPTION_REGULAR_NOMINATION | NICE_AGENT_OPTION_ICE_TRICKLE |
                                  NICE_AGENT_OPTION_CONSENT_FRESHNESS);
  g_object_set(agent, "controlling-mode", strcmp(words[1], "controlling") == 0, "upnp", FALSE, "ice-udp", udp,
               "ice-tcp", !udp, NULL);
  stream = nice_agent_add_stream(agent, 1);
  if (count > 7)
    nice_agent_set_relay_info(agent, stream, 1, words[4], atoi(words[5]), words[6], words[7],
                              strcmp(words[3], "turn-tcp") == 0 ? NICE_RELAY_TYPE_TURN_TCP
                                                                : NICE_RELAY_TYPE_TURN_UDP);
  g_signal_connect(agent, "new-candidate-full", G_CALLBACK(on_candidate), NULL);
  g_signal_connect(agent, "candidate-gathering-done", G_CALLBACK(on_gathered), NULL);
  g_signal_connect(agent, "component-state-changed", G_CALLBACK(on_state), NULL);
  nice_agent_attach_recv(agent, stream, 1, NULL, on_data, NULL);
  say_credentials();
  g_io_add_watch(g_io_channel_unix_new(0), G_IO_IN | G_IO_HUP, on_line, NULL);
  nice_agent_gather_candidates(agent, stream);
  g_main_loop_run(loop);
  return 0;
}
