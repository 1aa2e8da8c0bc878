/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rules.h"

static struct rules *load(struct daemon *d, const char *list, char *reason, size_t size)
{
	char path[512], error[RULES_ERROR_MAX];
	struct rules *rules;

	snprintf(path, sizeof(path), "%s/%s", d->config.config_dir, list);
	rules = rules_load(path, d->config.test_mode, error);
	if (!rules)
		snprintf(reason, size, "%s", error);
	else if (rules->allow_all)
		log_warning("test mode: there is no %s, everything is allowed", path);
	return rules;
}

int daemon_load_rules(struct daemon *d, char *reason, size_t size)
{
	struct rules *connect_rules = load(d, "udsconnect", reason, size);
	struct rules *accept_rules = connect_rules ? load(d, "udsaccept", reason, size) : NULL;
	struct rules *old_connect, *old_accept;

	if (!accept_rules) {
		rules_free(connect_rules);
		return -EINVAL;
	}
	pthread_mutex_lock(&d->rules_lock);
	old_connect = d->connect_rules;
	old_accept = d->accept_rules;
	d->connect_rules = connect_rules;
	d->accept_rules = accept_rules;
	pthread_mutex_unlock(&d->rules_lock);
	rules_free(old_connect);
	rules_free(old_accept);
	return 0;
}

void daemon_free_rules(struct daemon *d)
{
	rules_free(d->connect_rules);
	rules_free(d->accept_rules);
}

static struct rules_client client_of(const struct frame_credentials *who)
{
	return (struct rules_client){
		.uid = who->uid, .gid = who->gid, .groups = who->groups, .n_groups = who->n_groups
	};
}

bool daemon_may_connect(struct daemon *d, const char *name, size_t len,
			const struct frame_credentials *who)
{
	struct rules_client client = client_of(who);
	bool allowed;

	pthread_mutex_lock(&d->rules_lock);
	allowed = rules_match(d->connect_rules, name, len, &client, NULL);
	pthread_mutex_unlock(&d->rules_lock);
	return allowed;
}

bool daemon_may_accept(struct daemon *d, const char *name, size_t len,
		       const struct frame_credentials *who, char *root, char *rest, bool *creds)
{
	struct rules_client client = client_of(who);
	const struct rule *rule;

	pthread_mutex_lock(&d->rules_lock);
	rule = rules_match(d->accept_rules, name, len, &client, rest);
	if (rule) {
		snprintf(root, RULES_NAME_SIZE, "%s", rule->root);
		*creds = rule->creds;
	}
	pthread_mutex_unlock(&d->rules_lock);
	return rule;
}
